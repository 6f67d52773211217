import java.util.Properties;
import javax.mail.Folder;
import javax.mail.Message;
import javax.mail.Session;
import javax.mail.Store;

/** Fetches mail with JavaMail: Fetch HOST PORT USER PASSWORD [PROPERTY=VALUE]... */
public class Fetch {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("mail.debug.auth", "true");
        for (int i = 4; i < arguments.length; i++) {
            String[] pair = arguments[i].split("=", 2);
            properties.setProperty("mail.pop3." + pair[0], pair[1]);
        }
        Session session = Session.getInstance(properties);
        session.setDebug(true);
        session.setDebugOut(System.err);
        Store store = session.getStore("pop3");
        store.connect(arguments[0], Integer.parseInt(arguments[1]), arguments[2], arguments[3]);
        Folder folder = store.getFolder("INBOX");
        folder.open(Folder.READ_WRITE);
        for (Message message : folder.getMessages()) {
            System.out.println(((com.sun.mail.pop3.POP3Folder) folder).getUID(message) + " " + message.getSubject());
            message.writeTo(System.out);
        }
        folder.close(true);
        store.close();
    }
}
