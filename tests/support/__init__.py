"""What several test modules use: tiny models and data, runs that are cut off, cases looped inside a test."""
