"""Jobs: whatever answers a file row by row, journaled, resumable and finished by one rename."""
