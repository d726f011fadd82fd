import { useEffect, lazy, Suspense } from "react";
import { Dropdown } from "react-bootstrap";
import { Link, Navigate, NavLink, Outlet, Route, Routes, useLocation } from "react-router-dom";

import icon from "./icon.svg";
import { Live, useLive } from "./live";
import { Agents } from "./pages/Agents";
import { AgentPage } from "./pages/AgentPage";
import { Alerts } from "./pages/Alerts";
import { Audit } from "./pages/Audit";
import { Certificates } from "./pages/Certificates";
import { FirstAdmin, Login } from "./pages/Login";
import { Register } from "./pages/Register";
import { Sessions } from "./pages/Sessions";
import { Settings } from "./pages/Settings";
import { TaskPage } from "./pages/TaskPage";
import { Tasks } from "./pages/Tasks";
import { PlatformBanner } from "./platform";
import { SessionContext, useLeaving, useMay, useSession, useSessionQuery, useSignOut } from "./session";
import { setTheme, useTheme, type Theme } from "./theme";
import { Failure, Loading, Page } from "./ui";

const Dashboard = lazy(() => import("./pages/Dashboard").then((m) => ({ default: m.Dashboard })));

/** The pages of the navigation. A further area of the console is a row here and its routes below. */
const areas: { to: string; name: string; end: boolean; role?: "auditor" | "admin" }[] = [
  { to: "/", name: "Dashboard", end: true },
  { to: "/agents", name: "Agents", end: false },
  { to: "/tasks", name: "Tasks", end: false },
  { to: "/certificates", name: "Certificates", end: false },
  { to: "/alerts", name: "Alerts", end: false },
  { to: "/audit", name: "Audit", end: false, role: "auditor" },
  { to: "/settings", name: "Settings", end: false, role: "admin" },
];

function Account() {
  const session = useSession();
  const theme = useTheme();
  const signOut = useSignOut();
  const themes: [Theme, string][] = [["auto", "As the system"], ["light", "Light"], ["dark", "Dark"]];
  return (
    <Dropdown align="end">
      <Dropdown.Toggle variant="link" className="account" id="account">{session.name}</Dropdown.Toggle>
      <Dropdown.Menu>
        <Dropdown.Header as="div">{session.roles.map((role) => role.toLowerCase()).join(", ")}</Dropdown.Header>
        <Dropdown.Item as={Link} to="/sessions">Your sessions</Dropdown.Item>
        <Dropdown.Divider />
        {themes.map(([value, name]) => (
          <Dropdown.Item as="button" key={value} active={theme === value} onClick={() => setTheme(value)}>{name}</Dropdown.Item>
        ))}
        <Dropdown.Divider />
        <Dropdown.Item as="button" onClick={() => void signOut()}>Sign out</Dropdown.Item>
      </Dropdown.Menu>
    </Dropdown>
  );
}

function Frame() {
  const may = { auditor: useMay("auditor"), admin: useMay("admin") };
  const live = useLive();
  return (
    <>
      <a className="skip-link" href="#main">Skip to the content</a>
      <header className="topbar">
        <Link to="/" className="brand"><img src={icon} alt="" width="28" height="28" /><span>SSL CLM Agents</span></Link>
        <nav aria-label="Areas">
          {areas.filter(({ role }) => !role || may[role]).map(({ to, name, end }) => <NavLink key={to} to={to} end={end}>{name}</NavLink>)}
        </nav>
        <span className={`live ${live ? "on" : ""}`} title={live ? "What happens is shown as it happens" : "Pages ask again every few seconds"}>{live ? "Live" : "Asking"}</span>
        <Account />
      </header>
      <PlatformBanner />
      <main id="main" tabIndex={-1}>
        <Suspense fallback={<Loading />}><Outlet /></Suspense>
      </main>
    </>
  );
}

function SignedIn() {
  const location = useLocation();
  const session = useSessionQuery(), leaving = useLeaving();
  if (session.isPending || (leaving && session.data)) return <main className="alone"><Loading /></main>;
  if (session.isError && !session.data)
    return <main className="alone"><Failure error={session.error} retry={() => void session.refetch()} /></main>;
  if (!session.data)
    return <Navigate to="/login" replace state={leaving ? null : { from: location.pathname + location.search }} />;
  return <SessionContext.Provider value={session.data}><Live><Frame /></Live></SessionContext.Provider>;
}

function NotFound() {
  return (
    <Page title="Nothing here">
      <p>This address leads nowhere. <Link to="/">Go to the dashboard.</Link></p>
    </Page>
  );
}

export function App() {
  const { pathname } = useLocation();
  useEffect(() => { window.scrollTo(0, 0); }, [pathname]);
  return (
    <Routes>
      <Route path="/login" element={<Login />} />
      <Route path="/first-admin" element={<FirstAdmin />} />
      <Route element={<SignedIn />}>
        <Route index element={<Dashboard />} />
        <Route path="agents" element={<Agents />} />
        <Route path="agents/register" element={<Register />} />
        <Route path="agents/:id" element={<AgentPage />} />
        <Route path="tasks" element={<Tasks />} />
        <Route path="tasks/:id" element={<TaskPage />} />
        <Route path="certificates" element={<Certificates />} />
        <Route path="alerts" element={<Alerts />} />
        <Route path="audit" element={<Audit />} />
        <Route path="settings" element={<Settings />} />
        <Route path="sessions" element={<Sessions />} />
        <Route path="*" element={<NotFound />} />
      </Route>
    </Routes>
  );
}
