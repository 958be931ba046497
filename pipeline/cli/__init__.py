"""The command line `stethos`: thin, one module per group of commands; what it does lives elsewhere."""
