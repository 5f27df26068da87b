"""The fault suite: real processes, real kills, and an oracle. See docs/faults.md."""
