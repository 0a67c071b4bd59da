"""The systems under test, in the order in which they are run and reported."""

from bench.systems.aiosmtpd import Aiosmtpd
from bench.systems.base import System
from bench.systems.haproxy import HAProxy
from bench.systems.haraka import Haraka
from bench.systems.postfix import PostfixCopies, PostfixProxy, PostfixQueue
from bench.systems.waypost import WaypostCopies, WaypostPass

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        HAProxy(),
        WaypostPass(),
        WaypostCopies(),
        PostfixProxy(),
        PostfixQueue(),
        PostfixCopies(),
        Haraka(),
        Aiosmtpd(),
    )
}
