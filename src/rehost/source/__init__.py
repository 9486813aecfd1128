"""Where the app runs today, and what of it can be carried over."""
