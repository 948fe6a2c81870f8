"""Show that a run depends neither on interruptions nor on its devices."""
