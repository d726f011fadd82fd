"""Carries TCP bytes from one port to another: an address that one server leaves to the next."""
import socket
import threading

from clm.ports import HOST


class Relay:
    def __init__(self, port, target_port):
        self.target_port = target_port
        self.listener = socket.create_server((HOST, port), reuse_port=False)
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection((HOST, self.target_port))
            except OSError:
                return
            self.open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def stop(self):
        for end in [self.listener, *self.open]:
            end.close()
