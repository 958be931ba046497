"""The demonstration: real recordings of a lathe and a mill, carried with the program, with credits."""
