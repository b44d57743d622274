"""The engines that segment images: one package each, behind the interface of base.py; registry.py lists them."""
