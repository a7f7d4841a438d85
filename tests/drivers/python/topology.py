"""Feeds replies and errors to PyMongo's own model of a deployment, without a server.

A line of JSON on standard input is a script: `seeds`, `setName`, `direct` and `steps`. A step names a `host` and has `hello` (a
reply to it, in Extended JSON), `failed` (a monitor's check came to no answer), or `error` (`network`, `timeout`, or the
reply to a command) with `established` and `generation`. A line on standard output holds what is known after the opening
and after every step.

PyMongo departs from the specification where it makes a server Unknown: it keeps the `topologyVersion` of a primary that is
not the primary any more, and in a direct connection it says of a server which cannot be reached that its set is another.
Here it does neither.
"""

import json
import sys

from bson import json_util
from pymongo.errors import AutoReconnect, NetworkTimeout, NotPrimaryError, OperationFailure
from pymongo.hello import Hello
from pymongo.helpers_shared import _check_command_response, _check_write_command_response
from pymongo.server_description import ServerDescription
from pymongo.synchronous.settings import TopologySettings
from pymongo.synchronous.topology import Topology
from pymongo.topology_shared import _ErrorContext

OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED)


def to_unknown(self, error=None):
    return self if self.error else ServerDescription(self.address, error=error)


ServerDescription.to_unknown = to_unknown


class Idle:
    """A monitor that never asks."""

    def __init__(self, **_):
        pass

    def open(self):
        pass

    close = join = cancel_check = request_check = open


def main():
    for line in sys.stdin:
        script = json.loads(line, object_hook=lambda it: json_util.object_hook(it, OPTIONS))
        print(json_util.dumps(run(script), json_options=OPTIONS), flush=True)


def run(script):
    seeds = [(host, 27017) for host in script["seeds"]]
    settings = TopologySettings(
        seeds, replica_set_name=script["setName"], direct_connection=script["direct"], monitor_class=Idle
    )
    topology = Topology(settings)
    topology.open()
    states = [state(topology)]
    for step in script["steps"]:
        address = (step["host"], 27017)
        if "hello" in step:
            hello(topology, address, step["hello"])
        elif "failed" in step:
            lost(topology, address, AutoReconnect(step["failed"]))
        elif topology.has_server(address):
            error(topology, address, step)
        states.append(state(topology))
    topology.close()
    return states


def hello(topology, address, reply):
    try:
        _check_command_response(reply, None)
    except (NotPrimaryError, OperationFailure) as failure:
        lost(topology, address, failure)
    else:
        topology.on_change(ServerDescription(address, Hello(reply), 0))


def lost(topology, address, failure):
    topology.on_change(ServerDescription(address, error=failure), reset_pool=True)


def error(topology, address, step):
    try:
        if step["error"] == "network":
            raise AutoReconnect("broken")
        if step["error"] == "timeout":
            raise NetworkTimeout("timed out")
        _check_command_response(step["error"], None)
        _check_write_command_response(step["error"])
    except (AutoReconnect, NotPrimaryError, OperationFailure) as failure:
        if not step["established"] and isinstance(failure, AutoReconnect):
            failure._add_error_label("SystemOverloadedError")
        context = _ErrorContext(failure, None, step["generation"], step["established"], None)
        topology.handle_error(address, context)


def state(topology):
    description = topology.description
    return {
        "topologyType": description.topology_type_name,
        "setName": description.replica_set_name,
        "maxSetVersion": description.max_set_version,
        "maxElectionId": description.max_election_id,
        "logicalSessionTimeoutMinutes": description.logical_session_timeout_minutes,
        "servers": {
            f"{host}:{port}": server(topology, (host, port), it)
            for (host, port), it in description.server_descriptions().items()
        },
    }


def server(topology, address, description):
    return {
        "type": description.server_type_name,
        "hasError": description.error is not None,
        "setName": description.replica_set_name,
        "setVersion": description.set_version,
        "electionId": description.election_id,
        "topologyVersion": description.topology_version,
        "hosts": sorted(f"{host}:{port}" for host, port in description.all_hosts),
        "me": description.me,
        "primary": description.primary and "{}:{}".format(*description.primary),
        "generation": topology.get_server_by_address(address).pool.gen.get_overall(),
    }


if __name__ == "__main__":
    main()
