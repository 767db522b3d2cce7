"""What time brings: the tick, shift hand-over, guards for the clock and for restored copies, and the reconciler."""
