"""The engine as somebody would start it by hand: the package, the parameters, and nothing else.

``python bare_engine.py '{"model": "/…/x.gguf", "socket": "/…/y.sock", …}'`` serves until it is told to end, and writes
``ready`` to standard output once the model is loaded, which is known sooner so than by asking for its health.
"""

import json
import os
import signal
import sys

import xllamacpp

given = json.loads(sys.argv[1])
parameters = xllamacpp.CommonParams()
parameters.model.path = given["model"]
parameters.model_alias = {given["alias"]}
parameters.hostnames = [given["socket"]]
parameters.n_ctx = given["context"]
parameters.n_parallel = given["slots"]
parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = given["threads"]
parameters.n_threads_http = given["http_threads"]
parameters.n_batch = parameters.n_ubatch = given["batch"]
parameters.fit_params = given["fit"]
parameters.verbosity = given["verbosity"]
parameters.cache_ram_mib = 0
parameters.warmup = False
parameters.ui = False
parameters.offline = True
server = xllamacpp.Server(parameters)
os.write(1, b"ready\n")
while server is not None:
    signal.pause()
