"""graphflow beside its peers on the same work, and each kernel beside what the machine can do: `graphflow bench`.

Nothing here imports a peer but `worker`, in a process of its own that was asked for that peer.
"""
