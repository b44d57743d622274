"""What segments images: one package an engine, behind the seam of base.py; registry.py lists them."""
