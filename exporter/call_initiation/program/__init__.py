"""The command line: commands, settings, what is built of them, and what people read on a terminal."""
