"""The classes and their colours, reading of image and label files, colour changes, and drawing."""
