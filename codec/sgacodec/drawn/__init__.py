"""What of a picture an overlay codes better than the network: flat colours, text, line art, checkerboards.

picture -> tiles.looks_drawn -> network's and PNG's cost of each tile -> mask -> overlay and filled picture -> choice

A photograph leaves at the first arrow. `encoding` alone comes in, by `choice.choose`.
"""
