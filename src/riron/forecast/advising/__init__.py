"""Which setting to use: `advice` (the set of the best), `grid` and `choice` beneath it, `schedules` (the best one)."""
