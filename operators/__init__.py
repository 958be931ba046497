"""Signal processing: numpy functions and small streaming classes without I/O, clock, logging or environment."""
