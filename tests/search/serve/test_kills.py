"""Whatever was answered is there after the service was killed, by SIGTERM or SIGKILL, while items came and went."""

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time

import httpx
import numpy as np
import pytest
from search.serve.serving import AUTHORISED, ENCODER, TOKEN, collection

from ssljax.search import Collection
from ssljax.search.serve import Service, run


def serve(folder, port):
    shop = Collection.open(folder, to_change=True)
    service = Service(shop, ENCODER, lambda id: shop.item(id).photo, token=TOKEN, save_every=0.05)
    run(service, host="127.0.0.1", port=port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_answered_change_is_lost(number, tmp_path):
    folder, context = collection(tmp_path), multiprocessing.get_context("spawn")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    there, gone, doubtful = set(), set(), set()

    def change(writer):
        with contextlib.suppress(httpx.TransportError), httpx.Client(headers=AUTHORISED, timeout=30) as client:
            for i in range(10_000):
                id = f"{writer}/{i}"
                doubtful.add(id)
                vector = np.random.default_rng(i).random(12).tolist()
                answer = client.post(f"{address}/items", json={"id": id, "vector": vector, "columns": {"title": id}})
                if answer.status_code != 201:
                    return
                there.add(id)
                if i % 3 == 2:
                    there.remove(id)
                    if client.delete(f"{address}/items/{writer}%2F{i}").status_code != 200:
                        return
                    gone.add(id)
                doubtful.remove(id)

    address, process = f"http://127.0.0.1:{port}", context.Process(target=serve, args=(folder, port))
    process.start()
    try:
        while process.is_alive():
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/healthz").status_code == 200:
                    break
            time.sleep(0.05)
        writers = [threading.Thread(target=change, args=(writer,)) for writer in range(4)]
        for thread in writers:
            thread.start()
        while len(there) < 60:
            assert process.is_alive()
            time.sleep(0.01)
        os.kill(process.pid, number)
        for thread in writers:
            thread.join()
        process.join()
    finally:
        process.kill()
    assert process.exitcode == (0 if number == signal.SIGTERM else -number)
    shop = Collection.open(folder, to_change=True)  # the claim ended with the process
    assert all(id in shop and shop.item(id).columns == {"title": id} for id in there - doubtful)
    assert not any(id in shop for id in gone)
    assert 20 + len(there - doubtful) <= len(shop) <= 20 + len(there | doubtful)
    shop.close()


def test_a_folder_that_cannot_be_written_is_served_to_be_searched(tmp_path):
    folder = collection(tmp_path)
    with contextlib.closing(Collection.open(folder, to_change=True)) as shop:
        shop.put("new", np.ones(12), {"title": "New"})
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    readers = [Collection.open(folder) for _ in range(2)]
    assert all(len(reader) == 21 and reader.item("new").columns == {"title": "New"} for reader in readers)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
