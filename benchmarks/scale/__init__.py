"""Time and memory of a whole fit against the number of bins, units and sessions."""
