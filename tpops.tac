"""
C{twistd -y tpops.tac}: the service of the configuration that $TPOPS_CONFIG names (else ./tpops.toml, then
/etc/tpops/tpops.toml).
"""

from twisted.application.service import Application

from tpops.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("tpops")
makeService(options).setServiceParent(application)
