"""Training: from photographs to a model file.

    run (where a run starts) -> trainer (the loop) -> checkpoint, events
                                trainer asks a family for its network and a stage for what a step does
    export: averaged weights -> integer model

A new kind of network comes in by `families`, a new way of training by `stages`. Needs torch and CompressAI; nothing but
the command line and the benchmarks imports it.
"""
