"""The servers that the agent has a preset for, each private: a directory, a port, a certificate that is about to expire. Nothing of the machine's own servers is touched; only the distribution's programs are used."""
import os
import shutil
import smtplib
import socket
import ssl
import struct
from pathlib import Path
from signal import SIGINT, SIGTERM

from clm.host import fingerprint, served
from clm.platform import PG_BIN, write
from clm.ports import HOST, free_port
from clm.process import Process, run, wait_until


class Server:
    """A server of one preset. What stands in `conf` can be broken and mended; `refusal` is what its test says then."""
    preset, user, refusal, stop_signal = "", None, "", SIGTERM

    def __init__(self, root, name=None):
        self.dir = Path(root).resolve()
        self.name = name or f"{self.preset}.clm.test"
        self.dir.mkdir(parents=True)
        self.owner = self.user if os.geteuid() == 0 else None
        self.port = free_port()
        self.conf = self.dir / "server.conf"
        self.tls = self.dir / "tls"  # holds what the certificate's files are, and nothing else
        self.tls.mkdir()
        self.certificate, self.key = self.tls / "site.crt", self.tls / "site.key"
        self.process = Process(self.preset, self.argv(), self.dir / "stdout.log", stop_signal=self.stop_signal, env=self.env())

    def env(self):
        return {}

    def argv(self):
        raise NotImplementedError

    def configuration(self):
        raise NotImplementedError

    def prepare(self):
        """What has to be there before the start, beside certificate and configuration."""

    def own(self, path):
        if self.owner:
            shutil.chown(path, self.owner, self.owner)

    def make_certificate(self):
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
             "-keyout", self.key, "-out", self.certificate, "-subj", f"/CN={self.name}",
             "-addext", f"subjectAltName=DNS:{self.name}"])
        self.key.chmod(0o600)
        self.own(self.key)

    def private_key(self, out):
        """A copy of the key in place as PEM."""
        run(["openssl", "pkey", "-in", self.key, "-out", out])
        return out

    def write_conf(self, extra=""):
        write(self.conf, self.configuration() + extra)

    def break_conf(self):
        """Its configuration test fails from here on."""
        self.write_conf("this is no directive\n")

    def mend_conf(self):
        self.write_conf()

    def start(self):
        self.make_certificate()
        self.prepare()
        self.write_conf()
        self.process.start()
        return self

    def wait(self):
        wait_until(f"{self.preset} to serve", self.serves, process=self.process)
        return self

    def serves(self):
        try:
            return self.served()
        except (OSError, smtplib.SMTPException):
            return None

    def served(self, roots=None):
        return served(self.port, self.name, roots)

    def fingerprint(self):
        return fingerprint(self.served())

    def stop(self):
        self.process.kill()


class Nginx(Server):
    preset, refusal = "nginx", "unknown directive"

    def argv(self):
        return ["/usr/sbin/nginx", "-e", self.dir / "error.log", "-c", self.conf]

    def prepare(self):
        (self.dir / "tmp").mkdir()

    def configuration(self):
        user = "user nobody nogroup;\n" if os.geteuid() == 0 else ""
        paths = " ".join(f"{name}_temp_path {self.dir}/tmp;" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return (f"{user}daemon off;\npid {self.dir}/nginx.pid;\nerror_log {self.dir}/error.log notice;\n"
                f"events {{ worker_connections 64; }}\nhttp {{\n    access_log off;\n    {paths}\n    server {{\n"
                f"        listen {HOST}:{self.port} ssl;\n        server_name {self.name};\n"
                f"        ssl_certificate {self.certificate};\n        ssl_certificate_key {self.key};\n    }}\n}}\n")

    def break_conf(self):
        self.write_conf("this is no directive;\n")


class Apache(Server):
    preset, refusal = "apache", "Invalid command"

    def argv(self):
        return ["/usr/sbin/apache2", "-f", self.conf, "-DFOREGROUND"]

    def configuration(self):
        modules = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
                          for name in ("mpm_event", "authz_core", "ssl"))
        user = "User www-data\nGroup www-data\n" if os.geteuid() == 0 else ""
        return (f"ServerName {self.name}\nServerRoot {self.dir}\nPidFile {self.dir}/apache.pid\nErrorLog {self.dir}/error.log\n"
                f"DefaultRuntimeDir {self.dir}\nMutex file:{self.dir} default\n{user}{modules}"
                f"StartServers 1\nServerLimit 2\nThreadsPerChild 5\nMaxRequestWorkers 10\nMinSpareThreads 5\nMaxSpareThreads 10\n"
                f"Listen {HOST}:{self.port}\n"
                f"<VirtualHost *:{self.port}>\n    ServerName {self.name}\n    SSLEngine on\n"
                f"    SSLCertificateFile {self.certificate}\n    SSLCertificateKeyFile {self.key}\n</VirtualHost>\n")


class Haproxy(Server):
    """One file holds certificate and key."""
    preset, refusal = "haproxy", "unknown keyword 'this'"

    def argv(self):
        return ["/usr/sbin/haproxy", "-W", "-f", self.conf]

    def make_certificate(self):
        super().make_certificate()
        write(self.tls / "site.pem", self.certificate.read_text() + self.key.read_text(), 0o600)
        self.certificate.unlink()
        self.key.unlink()
        self.certificate = self.key = self.tls / "site.pem"

    def configuration(self):
        return (f"global\n    pidfile {self.dir}/haproxy.pid\ndefaults\n    mode http\n    timeout client 10s\n"
                f"    timeout connect 5s\n    timeout server 10s\n"
                f"frontend tls\n    bind {HOST}:{self.port} ssl crt {self.certificate}\n    http-request return status 200\n")


class Postgresql(Server):
    """The certificate is shown after PostgreSQL's own request for TLS."""
    preset, user, refusal, stop_signal = "postgresql", "postgres", "contains errors", SIGINT

    def argv(self):
        return [PG_BIN / "postgres", "-D", self.dir / "data"]

    def __init__(self, root, name=None):
        super().__init__(root, name)
        self.process.user = self.owner
        self.conf = self.dir / "data" / "postgresql.conf"
        self.own(self.dir)

    def prepare(self):
        run([PG_BIN / "initdb", "-D", self.dir / "data", "--no-sync", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8"],
            user=self.owner, timeout=120)

    def configuration(self):
        return (f"listen_addresses = '{HOST}'\nport = {self.port}\nunix_socket_directories = ''\nfsync = off\n"
                f"max_connections = 10\nshared_buffers = '1MB'\ndynamic_shared_memory_type = mmap\n"
                f"ssl = on\nssl_cert_file = '{self.certificate}'\nssl_key_file = '{self.key}'\n")

    def served(self, roots=None):
        context = ssl.create_default_context(cafile=roots) if roots else ssl._create_unverified_context()
        with socket.create_connection((HOST, self.port), 5) as plain:
            plain.sendall(struct.pack("!II", 8, 80877103))  # SSLRequest
            if plain.recv(1) != b"S":
                raise OSError("PostgreSQL does not offer TLS")
            with context.wrap_socket(plain, server_hostname=self.name) as tls:
                return tls.getpeercert(binary_form=True)


MASTER_CF = """\
{host}:{port} inet n - n - - smtpd
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
pickup unix n - n 60 1 pickup
error unix - - n - - error
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(Server):
    """The certificate is shown after STARTTLS. Starts only as root."""
    preset, refusal = "postfix", "missing '=' after attribute name"

    def argv(self):
        return ["/usr/sbin/postfix", "-c", self.dir / "etc", "start-fg"]

    def __init__(self, root, name=None):
        super().__init__(root, name)
        self.conf = self.dir / "etc" / "main.cf"

    def prepare(self):
        for name in ("etc", "queue", "data"):
            (self.dir / name).mkdir()
        shutil.chown(self.dir / "data", "postfix")
        write(self.dir / "etc" / "master.cf", MASTER_CF.format(host=HOST, port=self.port))

    def configuration(self):
        return (f"compatibility_level = 3.6\nmyhostname = {self.name}\nqueue_directory = {self.dir}/queue\n"
                f"data_directory = {self.dir}/data\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n"
                f"mydestination =\nlocal_recipient_maps =\nlocal_transport = error:none\nalias_maps =\nmaillog_file = {self.dir}/mail.log\n"
                f"maillog_file_prefixes = {self.dir}\n"
                f"smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {self.certificate}\nsmtpd_tls_key_file = {self.key}\n")

    def served(self, roots=None):
        context = ssl.create_default_context(cafile=roots) if roots else ssl._create_unverified_context()
        with smtplib.SMTP(HOST, self.port, local_hostname="test", timeout=5) as client:
            client._host = self.name  # the name that smtplib asks for and verifies
            client.starttls(context=context)
            return client.sock.getpeercert(binary_form=True)

    def stop(self):
        run(self.argv()[:3] + ["abort"], check=False)
        super().stop()


class Dovecot(Server):
    preset, refusal = "dovecot", "Error in configuration file"

    def argv(self):
        return ["/usr/sbin/dovecot", "-F", "-c", self.conf]

    def configuration(self):
        users = "" if os.geteuid() == 0 else (f"default_login_user = {os.getlogin()}\n"
                                              f"default_internal_user = {os.getlogin()}\n")
        return (f"protocols = imap\nlisten = {HOST}\nbase_dir = {self.dir}/run\nstate_dir = {self.dir}/state\n"
                f"log_path = {self.dir}/dovecot.log\n{users}ssl = required\n"
                f"ssl_cert = <{self.certificate}\nssl_key = <{self.key}\n"
                f"service imap-login {{\n  inet_listener imap {{\n    port = 0\n  }}\n"
                f"  inet_listener imaps {{\n    port = {self.port}\n    ssl = yes\n  }}\n}}\n")


SERVER_XML = """\
<?xml version="1.0" encoding="UTF-8"?>
<Server port="-1">
  <GlobalNamingResources>
    <Resource name="users" auth="Container" type="org.apache.catalina.UserDatabase"
              factory="org.apache.catalina.users.MemoryUserDatabaseFactory" pathname="conf/tomcat-users.xml"/>
  </GlobalNamingResources>
  <Service name="Catalina">
    <Connector port="{manager}" address="{host}" protocol="HTTP/1.1"/>
    <Connector port="{port}" address="{host}" protocol="HTTP/1.1" SSLEnabled="true">
      <SSLHostConfig>
        <Certificate certificateKeystoreFile="{keystore}" certificateKeystorePassword="{password}" type="EC"/>
      </SSLHostConfig>
    </Connector>
    <Engine name="Catalina" defaultHost="localhost">
      <Realm className="org.apache.catalina.realm.UserDatabaseRealm" resourceName="users"/>
      <Host name="localhost" appBase="webapps" autoDeploy="false">
        <Context path="/manager" docBase="/usr/share/tomcat10-admin/manager" privileged="true"/>
      </Host>
    </Engine>
  </Service>
</Server>
"""


class Tomcat(Server):
    """Reads its certificate again when its manager is told to; a restart would do as well, and take longer."""
    preset, refusal, password = "tomcat", "SAXParseException", "the keystore's"

    def argv(self):
        return ["/usr/share/tomcat10/bin/catalina.sh", "run"]

    def env(self):
        return {"CATALINA_BASE": str(self.dir), "JAVA_OPTS": "-Xmx96m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}

    def __init__(self, root, name=None):
        super().__init__(root, name)
        self.manager_port = free_port()
        self.conf = self.dir / "conf" / "server.xml"
        self.netrc = self.dir / "netrc"

    def prepare(self):
        for name in ("conf", "logs", "temp", "work", "webapps"):
            (self.dir / name).mkdir(exist_ok=True)
        write(self.dir / "conf" / "web.xml", "<web-app/>\n")
        write(self.dir / "conf" / "tomcat-users.xml",
              '<tomcat-users><role rolename="manager-script"/><user username="agent" password="only-a-test" '
              'roles="manager-script"/></tomcat-users>\n', 0o600)
        write(self.netrc, f"machine {HOST} login agent password only-a-test\n", 0o600)

    def make_certificate(self):
        """A PKCS#12 keystore, as Tomcat's own documentation has it; its password stands in server.xml."""
        super().make_certificate()
        run(["openssl", "pkcs12", "-export", "-in", self.certificate, "-inkey", self.key, "-name", "tomcat", "-out",
             self.tls / "site.p12", "-passout", "stdin"], stdin=self.password)
        self.certificate.unlink()
        self.key.unlink()
        self.certificate = self.key = self.tls / "site.p12"

    def private_key(self, out):
        run(["openssl", "pkcs12", "-in", self.key, "-nocerts", "-nodes", "-out", out, "-passin", "stdin"], stdin=self.password)
        return out

    def configuration(self):
        return SERVER_XML.format(host=HOST, port=self.port, manager=self.manager_port, password=self.password,
                                 keystore=self.certificate)

    def break_conf(self):
        write(self.conf, self.configuration().replace("<Service", "<this is no element\n<Service", 1))

    def reload_command(self):
        return f"/usr/bin/curl -sS --fail --netrc-file {self.netrc} http://{HOST}:{self.manager_port}/manager/text/sslReload"


SERVERS = {server.preset: server for server in (Nginx, Apache, Haproxy, Tomcat, Postgresql, Postfix, Dovecot)}
