"""What answers: one interface, and a folder per engine."""
