"""Show that a run resumes exactly, and needs no certain devices."""
