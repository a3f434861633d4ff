"""From what was noted of a call to what is counted: the recorder's thread, what a call was, and the one aggregate."""
