"""Trained models behind HTTP: `mtbert serve`."""
