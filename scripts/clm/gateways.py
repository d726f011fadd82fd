"""Further gateways of a platform: its configuration with ports and a state directory of their own."""
import re
import urllib.request

from clm.platform import write
from clm.ports import HOST, free_port
from clm.process import wait_until


def further_gateway(platform, number):
    """Starts gateway `number` (2, 3, …) and waits until it is ready; (its agent port, its process)."""
    ports = {name: free_port() for name in ("agent", "operator", "gateway-admin")}
    text = (platform.conf_dir / "gateway.conf").read_text()
    for name, port in ports.items():
        text = text.replace(f"{HOST}:{platform.ports[name]}", f"{HOST}:{port}")
    text = re.sub(r"state_dir = .*", f"state_dir = {platform.own_dir(f'state/gateway-{number}')}", text)
    conf = platform.conf_dir / f"gateway-{number}.conf"
    write(conf, text)
    process = platform.further_process(f"gateway-{number}", [platform.bin / "clm-gateway", "--config", conf]).start()

    def ready():
        try:
            return urllib.request.urlopen(f"http://{HOST}:{ports['gateway-admin']}/readyz", timeout=5).status == 200
        except OSError:
            return False
    wait_until(f"gateway {number} to be ready", ready, 60, process=process)
    return ports["agent"], process
