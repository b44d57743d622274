"""What cellpose 3 is made of: the passes of one call over the image, and the stages of each."""

# cellpose goes over the image three times when it estimates the diameter: once for the style vector and a first
# guess, once for masks at that guess, once for the masks it returns.
PASSES = ("style", "size", "mask", "none")
STAGES = {
    "construct": "building the model, where the protocol times it",
    "convert": "image to float32 with two channels",
    "normalize": "percentiles and scaling of the image",
    "resize": "image, flows or masks to another size",
    "tile": "padding, cutting tiles, collecting what the network says of them",
    "network": "the network, with copies to and from the device",
    "stitch": "blending tiles into one image",
    "dynamics": "moving pixels along the flows",
    "seeds": "masks from where the pixels end up",
    "qc": "quality control: each mask's own flows against the network's",
    "cleanup": "filling holes, dropping small masks",
    "flow_image": "colouring the flows, for display only",
    "diameter": "median diameter of the masks",
    "other": "what no hook claims",
}
