"""What a run leaves in its folder, and the only code that reads it."""
