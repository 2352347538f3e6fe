import { NavLink } from "react-router";
import { useFleet, useSystem } from "../api/queries";
import { KeyboardIcon, PoolIcon } from "../components/icons";
import { Chip } from "../components/Tag";
import { PLACES } from "./places";
import classes from "./Shell.module.css";

export function Navigation({ onHelp }: { onHelp: () => void }) {
  const fleet = useFleet();
  const system = useSystem();
  const pools = fleet.data?.pools ?? [];
  const active = pools.filter((pool) => pool.active_rollout).length;
  const waiting = pools.filter((pool) => pool.active_rollout?.phase === "PENDING_APPROVAL").length;
  return (
    <>
      <nav className={classes.nav} aria-label="Main">
        {PLACES.map(({ to, label, icon: Icon }) => (
          <NavLink key={to} to={to} end={to === "/"} className={classes.link ?? ""}>
            <Icon size={16} />
            {label}
            {to === "/rollouts" && active > 0 && (
              <span className={classes.count}>
                {waiting > 0 ? (
                  <Chip tone="warn">{waiting} to approve</Chip>
                ) : (
                  <Chip tone="accent">{active} active</Chip>
                )}
              </span>
            )}
          </NavLink>
        ))}
      </nav>
      {pools.length > 0 && (
        <nav className={classes.nav} aria-label="Pools">
          <p className={classes.group}>Pools</p>
          {pools.map((pool) => (
            <NavLink key={pool.id} to={`/pools/${pool.id}`} className={classes.link ?? ""}>
              <PoolIcon size={16} />
              <span className="ellipsis">{pool.name}</span>
              {pool.frozen && (
                <span className={classes.count}>
                  <Chip tone="info">frozen</Chip>
                </span>
              )}
            </NavLink>
          ))}
        </nav>
      )}
      <div className={classes.foot}>
        <button type="button" className={classes.plain} onClick={onHelp}>
          <KeyboardIcon size={14} /> Keys <kbd className={classes.key}>?</kbd>
        </button>
        {system.data && <span>Trimtab {system.data.version}</span>}
      </div>
    </>
  );
}
