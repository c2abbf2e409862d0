"""Videos: where boxes go from frame to frame, and what that tells of a detector's errors (001, chapter 2)."""
