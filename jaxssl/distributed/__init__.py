"""Several devices and several processes, one run."""
