"""Callbacks: scores by domain, the report, pictures and prototype diagnostics, each with any logger or none."""
