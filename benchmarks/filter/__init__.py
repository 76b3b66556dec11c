"""Time, memory and accuracy of Kalman filters, ours beside those of others."""
