"""Makes C{twistd tpops} known to Twisted."""

from twisted.application.service import ServiceMaker

tpops = ServiceMaker("tpops", "tpops.tap", "POP3 mail access service.", "tpops")
