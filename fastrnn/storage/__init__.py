"""Files: checkpoints, and what may be made again."""
