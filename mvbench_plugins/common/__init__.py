"""Ideas that two or more plugins share."""
