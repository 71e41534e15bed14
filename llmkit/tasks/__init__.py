"""What the one job loop does with a row: generate, score, choose, translate."""
