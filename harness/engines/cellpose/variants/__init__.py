"""The shared parts of variants: named parts, replaced functions, compiled post-processing."""
