"""Arithmetic on measurements: who is measured with whom, physical ceilings, and which part is to blame."""
