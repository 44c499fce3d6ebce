"""The Python client of a Tunesmith control plane: calls, watches that survive a cut, and transfers that go on.

    from tunesmith.client.client import Client

    with Client("127.0.0.1:7460") as client:
        run = client.runs.GetRun(run_pb2.GetRunRequest(run_id="run_01J…")).run

Nothing is imported here, so that a program which only wants the errors does not load gRPC.
"""
