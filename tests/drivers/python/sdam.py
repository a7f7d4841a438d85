"""What PyMongo's four kinds of listeners hear while a test does things to the servers; see "Servers and topologies" in ../workload.md."""

import os
import sys
import time

import pymongo
from pymongo import monitoring

import events


def address(pair):
    return f"{pair[0]}:{pair[1]}" if pair else None


def present(values):
    return {key: value for key, value in values.items() if value is not None}


def server(it):
    """A server's description, without the topology version, of which PyMongo takes no account when it compares two."""
    return present({
        "address": address(it.address), "type": it.server_type_name, "setName": it.replica_set_name,
        "setVersion": it.set_version, "electionId": it.election_id and str(it.election_id), "me": address(it.me),
        "allHosts": sorted(address(host) for host in it.all_hosts), "primary": address(it.primary), "tags": dict(it.tags),
        "minWireVersion": it.min_wire_version, "maxWireVersion": it.max_wire_version,
        "logicalSessionTimeoutMinutes": it.logical_session_timeout_minutes,
        "error": it.error and str(it.error),
    })


def topology(it):
    return present({
        "type": it.topology_type_name, "setName": it.replica_set_name, "maxSetVersion": it.max_set_version,
        "maxElectionId": it.max_election_id and str(it.max_election_id),
        "logicalSessionTimeoutMinutes": it.logical_session_timeout_minutes,
        "servers": [server(each) for each in it.server_descriptions().values()],
    })


class Servers(monitoring.ServerListener):
    def __init__(self, file):
        self.file = file

    def opened(self, event):
        self.file.write("serverOpeningEvent", topologyId=str(event.topology_id), address=address(event.server_address))

    def description_changed(self, event):
        self.file.write("serverDescriptionChangedEvent", topologyId=str(event.topology_id),
                        address=address(event.server_address), previousDescription=server(event.previous_description),
                        newDescription=server(event.new_description))

    def closed(self, event):
        self.file.write("serverClosedEvent", topologyId=str(event.topology_id), address=address(event.server_address))


class Topologies(monitoring.TopologyListener):
    def __init__(self, file):
        self.file = file

    def opened(self, event):
        self.file.write("topologyOpeningEvent", topologyId=str(event.topology_id))

    def description_changed(self, event):
        self.file.write("topologyDescriptionChangedEvent", topologyId=str(event.topology_id),
                        previousDescription=topology(event.previous_description),
                        newDescription=topology(event.new_description))

    def closed(self, event):
        self.file.write("topologyClosedEvent", topologyId=str(event.topology_id))


class Heartbeats(monitoring.ServerHeartbeatListener):
    def __init__(self, file):
        self.file = file

    def started(self, event):
        self.file.write("serverHeartbeatStartedEvent", connectionId=address(event.connection_id), awaited=event.awaited)

    def ended(self, name, event, **more):
        # The driver's durations are seconds.
        self.file.write(name, connectionId=address(event.connection_id), awaited=event.awaited,
                        durationMicros=round(event.duration * 1_000_000), **more)

    def succeeded(self, event):
        self.ended("serverHeartbeatSucceededEvent", event, reply=events.canonical(event.reply.document))

    def failed(self, event):
        self.ended("serverHeartbeatFailedEvent", event, failure=str(event.reply))


def main():
    file = events.File(os.environ["MONGOTAP_TEST_EVENTS"])
    listeners = [events.Commands(file), Servers(file), Topologies(file), Heartbeats(file)]
    client = pymongo.MongoClient(os.environ["MONGODB_URI"], appName="mongotap-test-pymongo", event_listeners=listeners)
    steps = {
        "ping": lambda: client.admin.command("ping"),
        "insert": lambda: client[os.environ["MONGOTAP_TEST_DB"]].topology.insert_one({}),
    }
    for line in sys.stdin:
        try:
            steps[line.strip()]()
            print("ok", flush=True)
        except pymongo.errors.PyMongoError as error:
            print(f"failed {error}", flush=True)
    client.close()
    # The monitors' threads say their last words by themselves.
    time.sleep(0.5)
    print("closed", flush=True)


main()
