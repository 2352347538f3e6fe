import { ActionIcon, Menu, Tooltip, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { spotlight } from "@mantine/spotlight";
import { Link } from "react-router";
import { useSignOut } from "../api/mutations";
import { useSession } from "../api/queries";
import { CheckIcon, MoonIcon, PersonIcon, ScreenIcon, SearchIcon, SunIcon } from "../components/icons";
import { words } from "../lib/format";
import { putOffSetUp } from "./entry";
import { useLive } from "./live";
import classes from "./Shell.module.css";

export function HeaderTools() {
  return (
    <div className={classes.tools}>
      <LiveIndicator />
      <button type="button" className={classes.search} onClick={spotlight.open} aria-label="Search and go to">
        <SearchIcon size={14} />
        <span>Search</span>
        <kbd>{navigator.platform.startsWith("Mac") ? "⌘K" : "Ctrl K"}</kbd>
      </button>
      <SchemeMenu />
      <AccountMenu />
    </div>
  );
}

function LiveIndicator() {
  const { connected } = useLive();
  const note = connected
    ? "The page follows the control plane's event stream."
    : "The event stream is down. The page asks every 15 s instead.";
  return (
    <Tooltip label={note} w={240}>
      <span className={classes.live} data-off={!connected || undefined} role="status">
        <span className={classes.pulse} aria-hidden="true" />
        <span>{connected ? "Live" : "Polling"}</span>
      </span>
    </Tooltip>
  );
}

const SCHEMES = [
  { value: "light", label: "Light", icon: SunIcon },
  { value: "dark", label: "Dark", icon: MoonIcon },
  { value: "auto", label: "As the system", icon: ScreenIcon },
] as const;

function SchemeMenu() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const shown = useComputedColorScheme("light");
  return (
    <Menu position="bottom-end" width={180}>
      <Menu.Target>
        <ActionIcon aria-label="Colour scheme" size={30}>
          {shown === "dark" ? <MoonIcon /> : <SunIcon />}
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {SCHEMES.map(({ value, label, icon: Icon }) => (
          <Menu.Item
            key={value}
            leftSection={<Icon />}
            rightSection={colorScheme === value ? <CheckIcon /> : null}
            onClick={() => setColorScheme(value)}
          >
            {label}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

function AccountMenu() {
  const session = useSession();
  const signOut = useSignOut();
  if (!session.data) return null;
  return (
    <Menu position="bottom-end" width={200}>
      <Menu.Target>
        <ActionIcon aria-label="Account" size={30}>
          <PersonIcon />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {session.data.name} · {words(session.data.role)}
        </Menu.Label>
        {session.data.set_up_due && <Menu.Item onClick={() => putOffSetUp(null)}>Set up the first admin</Menu.Item>}
        <Menu.Item component={Link} to="/account">
          Your account
        </Menu.Item>
        <Menu.Item component="a" href="/docs">
          API reference
        </Menu.Item>
        <Menu.Item onClick={() => signOut.mutate()}>Sign out</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
