import { Spotlight, type SpotlightActionData, type SpotlightActionGroupData } from "@mantine/spotlight";
import { useNavigate } from "react-router";
import { useDecisions, useNodes, usePools } from "../api/queries";
import { useRollouts } from "../api/rollouts";
import { DecisionIcon, NodeIcon, PoolIcon, RolloutIcon, SearchIcon } from "../components/icons";
import { shortId, words } from "../lib/format";
import { changesText } from "../lib/settings";
import { PLACES } from "./places";

/** Ctrl K: every place, pool and node, and the latest decisions and rollouts, by name. */
export function CommandPalette() {
  const navigate = useNavigate();
  const pools = usePools();
  const nodes = useNodes();
  const decisions = useDecisions({});
  const rollouts = useRollouts({});

  const group = (name: string, actions: SpotlightActionData[]): SpotlightActionGroupData => ({ group: name, actions });
  const groups = [
    group(
      "Pages",
      PLACES.map(({ label, to, hint, icon: Icon }) => ({
        id: to,
        label,
        description: hint,
        leftSection: <Icon size={16} />,
        onClick: () => void navigate(to),
      })),
    ),
    group(
      "Pools",
      (pools.data?.items ?? []).map((pool) => ({
        id: pool.id,
        label: pool.name,
        description: pool.model,
        leftSection: <PoolIcon />,
        onClick: () => void navigate(`/pools/${pool.id}`),
      })),
    ),
    group(
      "Nodes",
      (nodes.data?.items ?? []).map((node) => ({
        id: node.id,
        label: node.name,
        description: `${words(node.health)}, in ${node.pool}`,
        leftSection: <NodeIcon />,
        onClick: () => void navigate(`/nodes/${node.id}`),
      })),
    ),
    group(
      "Rollouts",
      (rollouts.data?.pages[0]?.items ?? []).slice(0, 12).map((rollout) => ({
        id: rollout.id,
        label: `Rollout ${shortId(rollout.id)}`,
        description: `${words(rollout.phase)}: ${changesText(rollout.changes)}`,
        leftSection: <RolloutIcon />,
        onClick: () => void navigate(`/rollouts/${rollout.id}`),
      })),
    ),
    group(
      "Decisions",
      (decisions.data?.pages[0]?.items ?? []).slice(0, 12).map((decision) => ({
        id: decision.id,
        label: `${words(decision.outcome)}: ${words(decision.reason).toLowerCase()}`,
        description: decision.explanation,
        leftSection: <DecisionIcon />,
        onClick: () => void navigate(`/decisions/${decision.id}`),
      })),
    ),
  ].filter(({ actions }) => actions.length > 0);

  return (
    <Spotlight
      actions={groups}
      shortcut="mod + K"
      nothingFound="Nothing of that name"
      highlightQuery
      limit={9}
      attributes={{ content: { "aria-label": "Search" } }}
      searchProps={{ leftSection: <SearchIcon />, placeholder: "Go to…", "aria-label": "Go to" }}
    />
  );
}
