"""The systems under test, in the order in which they are run and reported."""

from bench.systems.aiosmtpd import Aiosmtpd
from bench.systems.base import System
from bench.systems.haproxy import HAProxy
from bench.systems.haraka import Haraka
from bench.systems.postfix import PostfixCopies, PostfixProxy, PostfixQueue, PostfixQueueDefault, PostfixQueuePutOff
from bench.systems.waypost import WaypostCopies, WaypostPass
from bench.systems.waypost_postgres import WaypostSpoolPostgres
from bench.systems.waypost_spool import WaypostHybrid, WaypostHybridQueued, WaypostSpool

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        HAProxy(),
        WaypostPass(),
        WaypostCopies(),
        WaypostSpool(),
        WaypostSpoolPostgres(),
        WaypostHybrid(),
        WaypostHybridQueued(),
        PostfixProxy(),
        PostfixQueue(),
        PostfixQueueDefault(),
        PostfixQueuePutOff(),
        PostfixCopies(),
        Haraka(),
        Aiosmtpd(),
    )
}
