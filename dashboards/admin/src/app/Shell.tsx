import { AppShell, Burger, Modal } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Suspense, useEffect } from "react";
import { Link, Outlet, useLocation } from "react-router";
import { Logo } from "../components/Logo";
import { CommandPalette } from "./CommandPalette";
import { HeaderTools } from "./HeaderTools";
import { live } from "./live";
import { Navigation } from "./Navigation";
import { usePageLoading } from "./pages";
import { RouteFailed } from "./RouteFailed";
import classes from "./Shell.module.css";
import { ShortcutList } from "./ShortcutList";
import { StaleBanner } from "./StaleBanner";
import { useShortcuts } from "./useShortcuts";

/** The frame around every page: side bar, header, search, keys, and the live stream while somebody is signed in. */
export function Shell() {
  const [menuOpen, menu] = useDisclosure(false);
  const [helpOpen, help] = useDisclosure(false);
  const { pathname } = useLocation();
  const busy = usePageLoading();
  useShortcuts(help.open);

  useEffect(() => {
    live.start();
    return () => live.stop();
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: a new page starts at its top, with the menu closed
  useEffect(() => {
    menu.close();
    window.scrollTo(0, 0);
  }, [pathname]);

  return (
    <>
      <a href="#main" className="skip-link">
        Skip to content
      </a>
      <AppShell
        header={{ height: 52 }}
        navbar={{ width: 208, breakpoint: "sm", collapsed: { mobile: !menuOpen } }}
        padding={{ base: 12, sm: 20, lg: 24 }}
        transitionDuration={0}
        classNames={{ header: classes.header ?? "", navbar: classes.navbar ?? "", main: classes.main ?? "" }}
      >
        <AppShell.Header>
          <Burger
            opened={menuOpen}
            onClick={menu.toggle}
            hiddenFrom="sm"
            size="sm"
            aria-label="Menu"
            aria-expanded={menuOpen}
          />
          <Link to="/" className={classes.brand} aria-label="Trimtab, to the fleet">
            <Logo size={24} />
            <span className={classes.brandName}>Trimtab</span>
          </Link>
          <HeaderTools />
          {busy && <span className={classes.busy} role="progressbar" aria-label="Loading page" />}
        </AppShell.Header>
        <AppShell.Navbar>
          <Navigation onHelp={help.open} />
        </AppShell.Navbar>
        <AppShell.Main id="main" tabIndex={-1}>
          <StaleBanner />
          <div className={classes.page}>
            <RouteFailed>
              <Suspense fallback={null}>
                <Outlet />
              </Suspense>
            </RouteFailed>
          </div>
        </AppShell.Main>
      </AppShell>
      <CommandPalette />
      <Modal opened={helpOpen} onClose={help.close} title="Keys" closeButtonProps={{ "aria-label": "Close" }}>
        <ShortcutList />
      </Modal>
    </>
  );
}
