"""Numbers: each a `Score` with its signature, one file per metric."""
