"""What a person does at the console, and what is looked at there."""
import json
from pathlib import Path

from selenium.common.exceptions import ElementClickInterceptedException, StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

TOP = Path(__file__).resolve().parents[2]
AXE = (TOP / "services" / "gateway" / "web" / "node_modules" / "axe-core" / "axe.min.js").read_text()
NAME, PASSWORD = "alice", "correct horse battery staple"

# In one question: a page that is told of something may be drawn anew between two.
FIND_BY_NAME = """const [name, within] = arguments;
return [...document.querySelectorAll(`${within} button, ${within} a`)].find((e) =>
  !e.disabled && e.getClientRects().length && (e.innerText.trim() === name || e.getAttribute("aria-label") === name)) || null;"""


class Console:
    def __init__(self, driver, platform, pictures):
        self.driver, self.platform, self.pictures = driver, platform, pictures
        driver.set_window_size(1280, 900)

    # ---- going and looking ------------------------------------------------------------------------------------

    def open(self, path):
        self.driver.get(self.platform.url + path)
        return self

    @property
    def path(self):
        return self.driver.execute_script("return location.pathname")

    def wait(self, what, condition, timeout=20):
        try:
            return WebDriverWait(self.driver, timeout, 0.1, [StaleElementReferenceException, ElementClickInterceptedException]).until(
                lambda _: condition())
        except TimeoutException:
            raise TimeoutException(f"{what}\n--- at {self.driver.current_url} the page says:\n{self.text()}") from None

    def text(self):
        return self.driver.execute_script("return document.body ? document.body.innerText : ''")

    def sees(self, text, timeout=20):
        self.wait(f"the page to say {text!r}", lambda: text in self.text(), timeout)
        return self

    def button(self, text, inside):
        """The button of that text, once it is shown."""
        return self.wait(f"a button {text!r}", lambda: next(
            (b for b in self.driver.find_elements(By.CSS_SELECTOR, f"{inside} button") if b.text == text), None))

    def heading(self, text, timeout=20):
        self.wait(f"the heading {text!r}", lambda: any(text in h.text for h in self.driver.find_elements(By.TAG_NAME, "h1")), timeout)
        return self

    def find(self, css):
        return self.wait(css, lambda: next((e for e in self.driver.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()), None))

    def labelled(self, label):
        """The field that a label names, as assistive technology finds it."""
        def look():
            for element in self.driver.find_elements(By.CSS_SELECTOR, "label"):
                if element.is_displayed() and element.text.strip() == label:
                    return self.driver.find_element(By.ID, element.get_attribute("for"))
            return None
        return self.wait(f"a field labelled {label!r}", look)

    def fill(self, label, text):
        field = self.labelled(label)
        field.clear()
        field.send_keys(text)
        return self

    def choose(self, label, option):
        Select(self.labelled(label)).select_by_visible_text(option)
        return self

    def press(self, name, within="body"):
        """A button or a link by its name; once more when the page moved under the pointer."""
        def look():
            element = self.driver.execute_script(FIND_BY_NAME, name, within)
            if element:
                self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
                element.click()
            return bool(element)
        self.wait(f"something to press named {name!r}", look)
        return self

    # ---- signing in -------------------------------------------------------------------------------------------

    def admin_link(self):
        return self.platform.create_admin_link().read_text().strip()

    def become_admin(self):
        self.driver.get(self.admin_link())
        self.heading("Set your password")
        self.fill("Name", NAME).fill("Password", PASSWORD).fill("The same again", PASSWORD).press("Set the password and sign in")
        return self.heading("Dashboard")

    def login(self, password=PASSWORD):
        self.open("/login").heading("Sign in")
        return self.fill("Name", NAME).fill("Password", password).press("Sign in", "form")

    # ---- what must never be -----------------------------------------------------------------------------------

    def complaints(self):
        """Errors of the page and violations of its policy since the last look. That nobody is signed in is an answer."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] == "SEVERE" and not ("/api/v1/sessions" in entry["message"] and "status of 401" in entry["message"])]

    def violations(self):
        """What axe-core finds serious or critical."""
        self.driver.execute_script(AXE)
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations), e => done(String(e)));")
        assert isinstance(found, list), found
        return [f"{v['id']} ({v['impact']}): {v['help']}\n" + json.dumps([[n["target"], n.get("failureSummary", "")] for n in v["nodes"][:3]], indent=1)
                for v in found if v["impact"] in ("serious", "critical")]

    def shade(self, scheme):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self.wait(f"the {scheme} colours", lambda: self.driver.execute_script("return document.documentElement.dataset.bsTheme") == scheme)
        return self

    def picture(self, name):
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        self.driver.set_window_size(1280, max(720, min(height + 140, 2400)))
        self.driver.save_screenshot(str(self.pictures / f"{name}.png"))
        self.driver.set_window_size(1280, 900)
