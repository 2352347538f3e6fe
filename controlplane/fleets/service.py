"""The room's door: what other rooms may call of fleets. Each name lives in the file that holds its noun."""

from controlplane.fleets.desired import create_revision as create_revision
from controlplane.fleets.desired import current_revision as current_revision
from controlplane.fleets.desired import desired_push as desired_push
from controlplane.fleets.desired import owe_push as owe_push
from controlplane.fleets.desired import set_desired as set_desired
from controlplane.fleets.desired import settings_of as settings_of
from controlplane.fleets.health import NodeHealth as NodeHealth
from controlplane.fleets.health import in_sync as in_sync
from controlplane.fleets.health import node_health as node_health
from controlplane.fleets.inventory import count_frozen as count_frozen
from controlplane.fleets.inventory import freeze_pool as freeze_pool
from controlplane.fleets.inventory import get_node as get_node
from controlplane.fleets.inventory import get_pool as get_pool
from controlplane.fleets.inventory import get_revision as get_revision
from controlplane.fleets.inventory import list_nodes as list_nodes
from controlplane.fleets.inventory import list_pools as list_pools
from controlplane.fleets.inventory import list_revisions as list_revisions
from controlplane.fleets.inventory import unfreeze_pool as unfreeze_pool
from controlplane.fleets.observed import heartbeat as heartbeat
from controlplane.fleets.observed import mark_unreachable as mark_unreachable
from controlplane.fleets.observed import record_ack as record_ack
from controlplane.fleets.observed import record_reject as record_reject
from controlplane.fleets.registration import Registered as Registered
from controlplane.fleets.registration import register_node as register_node
