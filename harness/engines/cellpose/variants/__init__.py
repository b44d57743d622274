"""What the variants of several engines share: named parts, replaced functions, compiled post-processing."""
