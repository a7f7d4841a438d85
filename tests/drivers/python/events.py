"""Writes what a driver's listeners hear to a file, one JSON object a line."""

import json
import threading

from bson import json_util
from pymongo import monitoring


class File:
    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8")
        self.lock = threading.Lock()

    def write(self, name, **fields):
        line = {"event": name, **{key: value for key, value in fields.items() if value is not None}}
        text = json.dumps(line, ensure_ascii=False)
        with self.lock:
            self.file.write(text + "\n")
            self.file.flush()


class Commands(monitoring.CommandListener):
    def __init__(self, file):
        self.file = file

    def write(self, name, event, **more):
        self.file.write(name, commandName=event.command_name, databaseName=event.database_name,
                        requestId=event.request_id, serverConnectionId=event.server_connection_id, **more)

    def started(self, event):
        self.write("commandStartedEvent", event, command=canonical(event.command))

    def succeeded(self, event):
        self.write("commandSucceededEvent", event, durationMicros=event.duration_micros, reply=canonical(event.reply))

    def failed(self, event):
        self.write("commandFailedEvent", event, durationMicros=event.duration_micros, failure=canonical(event.failure))


def canonical(document):
    """The canonical Extended JSON of a document, as plain values."""
    return json.loads(json_util.dumps(document, json_options=json_util.CANONICAL_JSON_OPTIONS))
