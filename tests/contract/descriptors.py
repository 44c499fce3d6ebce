"""Every service of the contract, read from the generated modules: a file added tomorrow is among them tomorrow."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from google.protobuf.descriptor import ServiceDescriptor

import tunesmith.v1

NODES_OWN = "TrainerService"  # served by each node to its control plane; all others are the control plane's

SERVICES: list[ServiceDescriptor] = [
    service
    for module in sorted(found.name for found in iter_modules(tunesmith.v1.__path__))
    if module.endswith("_pb2")
    for service in import_module(f"tunesmith.v1.{module}").DESCRIPTOR.services_by_name.values()
]
