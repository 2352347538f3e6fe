"""The room's door for the others: who somebody is, and the token of the configuration."""

from controlplane.accounts.tokens import authenticate_token as authenticate_token
from controlplane.accounts.tokens import ensure_admin_token as ensure_admin_token
